-- Dialogues and what is said in all their turns, which makes two of them the same. One row per dialogue;
-- content is null where a turn has no text.
select
    dialogue_id as id,
    case
        when len(list_filter(turns, lambda t: t.text_key is null)) = 0
            then array_to_string(list_transform(turns, lambda t: concat_ws('|', t."role", t.text_key)), ' ')
    end as content,
    corpus,
    language,
    null::varchar as speaker,
    0.0::double as duration_s,
    key_hash,
    null::double as snr_db,
from dialogues
