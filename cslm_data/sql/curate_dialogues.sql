-- What the predicate of a filter is asked of: the dialogues that were not moved out. One row per
-- dialogue. {where} is the predicate.
with candidates as (
    select
        dialogues.*,
        len(turns) as num_turns,
        list_sum(list_transform(turns, lambda t: coalesce(len(t.text), 0))) as num_characters,
        len(list_filter(turns, lambda t: t.audio is not null)) as num_spoken,
    from dialogues
)

select
    dialogue_id as id,
    null::varchar as duplicate_of,
from candidates
where ({where})
