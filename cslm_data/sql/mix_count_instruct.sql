-- Rows that mix_instruct would choose of the whole catalog. One row.
select count(*)
from dialogues
where
    language = $language
    and len(list_filter(turns, lambda t: t.audio is not null or t.utt_id is not null)) = 0
    and ({where})
