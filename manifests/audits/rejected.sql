-- What was refused, by stage and reason, with one example. One row per (stage, corpus, reason).
-- See the details with: cslm-data sql "select * from rejects where reason = '…'"
select
    stage,
    corpus,
    reason,
    count(*) as refused,
    min("key") as example,
from rejects
group by all
order by stage, corpus, reason;
