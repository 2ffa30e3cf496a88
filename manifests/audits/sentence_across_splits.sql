-- title: The same sentence in train and in a held-out split
-- severity: error
-- why: A model tested on a sentence that it was trained on says nothing of what it has learnt. By the
--   corpora's own splits, over all corpora; a corpus without splits counts as train.
-- fix: Move it out of train: cslm-data filter "text_key = … and split = 'train'" --reason split_leak.
--   Or build mixes with splits.by content, which divide by what is said.

-- One row per (language, sentence) of at least three words, or six characters without spaces.
with leaked as (
    select language, text_key
    from texts
    group by language, text_key
    having bool_or(split_kind(split) = 'train') and bool_or(split_kind(split) <> 'train')
)

select
    language,
    text_key,
    count(*) as texts,
    list_sort(list(distinct texts.corpus || ' ' || coalesce(texts.split, 'no split'))) as places,
    min(texts.text) as text,
    list(texts.id order by texts.id) filter (where texts.table_name = 'utterances') as utt_ids,
    list(texts.id order by texts.id) filter (where texts.table_name <> 'utterances') as other_ids,
from texts
inner join leaked using (language, text_key)
group by language, text_key
having is_sentence(bare_text(min(texts.text)), language)
order by language, min(texts.text), text_key;
