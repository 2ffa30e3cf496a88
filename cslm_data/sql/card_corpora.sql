-- What the train split of a mix is made of, and under which licences. One row per (corpus, licence).
with members as (
    select distinct unnest(source_ids) as source_id
    from mix_samples
    where mix = $mix and split = 'train'
),

rows as (
    select utt_id as source_id, corpus, license from all_utterances
    union all
    select pair_id as source_id, corpus, license from all_bitext
    union all
    select dialogue_id as source_id, corpus, license from all_dialogues
)

select
    coalesce(rows.corpus, 'no longer in the catalog') as corpus,
    coalesce(rows.license, 'not stated') as licence,
    count(*) as num_rows,
from members
left join rows using (source_id)
group by all
order by corpus, licence
