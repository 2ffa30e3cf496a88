-- The splits that an export will have, `all` where the corpus has none. One row per split.
select coalesce(split, 'all') as split, count(*) as num_utterances
from utterances
where ($split is null or split = $split)
    and ($languages is null or list_contains($languages, "language"))
    and utt_id in (select utt_id from utterances where ({where}))
group by all
order by all
