-- title: The same sentence in training and in a held-out split of one mix
-- severity: error
-- why: A model evaluated on what it was trained on says nothing. A mix that takes its splits from the
--   manifests (splits.by manifest) is the corpora's own affair: see sentence_across_splits.
-- fix: cslm-data build-mix … --overwrite
-- needs: mix

-- One row per (mix, sentence).
with members as (
    select mix, split, "key", unnest(source_ids) as id
    from mix_samples
    where mix in (select mixes.mix from mixes where mixes.split_by = 'content')
),

sentences as (
    select utt_id as id, utt_id, text_key, text from utterances where text is not null
    union all
    select pair_id as id, null as utt_id, src_key as text_key, src as text from bitext
    union all
    select pair_id as id, null as utt_id, tgt_key as text_key, tgt as text from bitext
    union all
    select dialogue_id as id, utt_id, text_key, text from dialogue_turns where role = 'user' and text is not null
)

select
    members.mix,
    min(sentences.text) as sentence,
    list_sort(list(distinct members.split)) as splits,
    count(*) as samples,
    min(members."key") as example,
    list_sort(list(distinct sentences.utt_id)) as utt_ids,
from members
inner join sentences using (id)
group by members.mix, sentences.text_key
having bool_or(members.split = 'train') and bool_or(members.split <> 'train')
order by members.mix, sentence, example;
