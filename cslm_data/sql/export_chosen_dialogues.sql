-- Dialogues that an export takes, those in the languages asked for alone; a part of its other queries.
-- `moved_turn` is the number of a turn whose utterance was moved out of the catalog, null for none.
-- One row per dialogue.
with asked as (
    select *
    from dialogues
    where $whole
        and ($split is null or split = $split)
        and ($corpus is null or corpus = $corpus)
        and ($languages is null or list_has_all($languages, list_transform(turns, lambda t: t.language)))
),

moved as (
    select distinct all_utterances.audio, all_utterances.offset_s
    from all_utterances
    inner join excluded on all_utterances.utt_id = excluded.id and excluded.table_name = 'utterances'
    anti join utterances on all_utterances.audio = utterances.audio and all_utterances.offset_s = utterances.offset_s
),

spoken as (
    select dialogue_id, generate_subscripts(turns, 1) as turn, unnest(turns) as t
    from asked
),

unsayable as (
    select spoken.dialogue_id, min(spoken.turn) as moved_turn
    from spoken
    inner join moved on spoken.t.audio = moved.audio and spoken.t.offset_s = moved.offset_s
    group by spoken.dialogue_id
)

select asked.*, unsayable.moved_turn
from asked
left join unsayable using (dialogue_id)
