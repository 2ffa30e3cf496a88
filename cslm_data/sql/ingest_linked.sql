-- Leave out a dialogue manifest's utterances whose audio another manifest already describes: the turn is
-- linked to that one.
insert into verdicts
select raws.rowid, null, null, true
from raw_utterances as raws
inner join all_utterances as others
    on
        raws.audio = others.audio
        and raws.offset_s = others.offset_s
        and others.source_uri <> $source
where raws.rowid not in (select verdicts.row_id from verdicts)
group by raws.rowid
