-- title: What was refused, by stage and reason
-- severity: info
-- why: Refused rows are in no mix; many of one reason are one fault of a source.
-- fix: cslm-data sql "select * from rejects where reason = '…'", mend the source, ingest again.

-- One row per (stage, corpus, reason).
select
    stage,
    corpus,
    reason,
    count(*) as refused,
    min("key") as example,
    min(detail) as detail,
from rejects
group by stage, corpus, reason
order by stage, corpus, reason;
