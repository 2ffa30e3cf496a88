-- title: The same sound in train and in a held-out split
-- severity: error
-- why: A model tested on a recording that it was trained on says nothing of what it has learnt.
-- fix: Move it out of train: cslm-data filter "utt_id = '…'" --reason split_leak.

-- One row per sound. A corpus without splits counts as train.
with placed as (
    select
        list_sort(list_distinct(list_transform(
            heard, lambda one: one.corpus || ' ' || coalesce(one.split, 'no split')
        ))) as places,
        list_distinct(list_transform(heard, lambda one: split_kind(one.split))) as kinds,
        list_sort(list_transform(heard, lambda one: one.utt_id)) as utt_ids,
    from repeated_sounds
)

select places, utt_ids
from placed
where list_contains(kinds, 'train') and len(kinds) > 1
order by utt_ids[1];
