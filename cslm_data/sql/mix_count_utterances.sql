-- Rows that mix_utterances would choose of the whole catalog. One row.
select count(*)
from utterances
where language = $language and text is not null and text_key is not null and ({where})
