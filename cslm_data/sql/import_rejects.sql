-- Lines that are refused, in the order of the files. One row per line. Needs the table `matched`.
select
    corpus,
    coalesce(utt_id, "name") as "key",
    reason,
    place || ': ' || detail as detail,
from matched
where reason is not null
order by line
