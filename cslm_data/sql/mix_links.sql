-- What links the sentences of the whole catalog: no two linked ones may lie on both sides of a split. One
-- row per link. Of a dialogue that is text alone only what the user says is a sentence, and of a spoken
-- one every turn.
with turns as (
    select dialogue_id, generate_subscripts(turns, 1) as turn, unnest(turns) as t
    from dialogues
    where len(turns) > 1
),

spoken_dialogues as (
    select distinct dialogue_id
    from turns
    where t.audio is not null or t.utt_id is not null
),

said as (
    select dialogue_id, turn, t.text_key as text_key
    from turns
    where
        t.text_key is not null
        and (t.role = 'user' or dialogue_id in (select dialogue_id from spoken_dialogues))
),

firsts as (
    select dialogue_id, arg_min(text_key, turn) as text_key
    from said
    group by dialogue_id
),

parallels as (
    select parallel_id, min(firsts.text_key) as text_key
    from dialogues
    inner join firsts using (dialogue_id)
    where parallel_id is not null
    group by parallel_id
),

links as (
    select src_key as a, tgt_key as b
    from bitext
    union all
    select firsts.text_key as a, said.text_key as b
    from said
    inner join firsts using (dialogue_id)
    union all
    select parallels.text_key as a, firsts.text_key as b
    from dialogues
    inner join firsts using (dialogue_id)
    inner join parallels using (parallel_id)
)

select a, b
from links
where a <> b
