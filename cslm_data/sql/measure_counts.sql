-- How much of the speech in the catalog was measured. One row per reason of refusal ('' for none) and
-- whether the part was there before this run. Needs `measured` and `earlier` (part: file names).
select
    measured.found.reason as reason,
    measured.found.part in (select part from earlier) as is_earlier,
    count(*) as num_utterances,
from measured
inner join utterances using (utt_id, audio_version)
group by all
order by all
