-- The same sentence in training and in a held-out split of one mix. One row per (mix, sentence).
-- A model evaluated on what it was trained on says nothing. Rebuild the mix with --overwrite; a mix
-- that takes its splits from the manifests (splits.by: manifest) is the corpus's own affair.
with members as (
    select mix, split, unnest(source_ids) as id
    from mix_samples
    where mix in (select mixes.mix from mixes where mixes.split_by = 'content')
),

sentences as (
    select utt_id as id, text_key, text from utterances where text is not null
    union all
    select pair_id as id, src_key as text_key, src as text from bitext
    union all
    select pair_id as id, tgt_key as text_key, tgt as text from bitext
    union all
    select dialogue_id as id, text_key, text from dialogue_turns where role = 'user' and text is not null
)

select
    members.mix,
    any_value(sentences.text) as sentence,
    list_sort(list(distinct members.split)) as splits,
    count(*) as samples,
from members
inner join sentences using (id)
group by members.mix, sentences.text_key
having bool_or(members.split = 'train') and bool_or(members.split <> 'train')
order by members.mix, sentence;
