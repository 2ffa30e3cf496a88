-- Dialogues that are text alone and could be spoken. One row per dialogue. $single: of one exchange only.
-- {where} is a predicate over them.
with candidates as (
    select
        dialogues.*,
        len(turns) as num_turns,
        list_sum(list_transform(turns, lambda t: coalesce(len(t.text), 0))) as num_characters,
    from dialogues
    where len(list_filter(turns, lambda t: t.audio is not null or t.utt_id is not null)) = 0
)

select
    dialogue_id as id,
    corpus,
    license,
    split,
    parallel_id,
    list_transform(turns, lambda t: {'role': t.role, 'language': t.language, 'text': t.text}) as turns,
from candidates
where
    len(list_filter(turns, lambda t: not list_contains($languages, t.language))) = 0
    and (not $single or len(list_filter(turns, lambda t: t.role <> 'system')) = 2)
    and ($corpus is null or corpus = $corpus)
    and ({where})
