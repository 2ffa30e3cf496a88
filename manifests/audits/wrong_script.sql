-- title: Text in a script that its language is not written in
-- severity: warning
-- why: Romanised, transliterated or foreign text; a text tokenizer and a base model know the language
--   in its own script.
-- fix: Convert it in the manifest and ingest again, correct its language, or cslm-data filter
--   "utt_id in (…)" --reason wrong_script.
-- needs: text_scripts

-- One row per text of at least two letters, most of them of another script.
select
    if(table_name = 'utterances', id, null) as utt_id,
    if(table_name = 'bitext', id, null) as pair_id,
    if(table_name = 'dialogues', id, null) as dialogue_id,
    field,
    corpus,
    language,
    letters,
    round(share_outside, 3) as share_outside,
    left("text", 200) as "text",
from text_scripts
inner join texts using (table_name, id, field, corpus, language)
where letters >= 2 and share_outside > 0.5
order by corpus, table_name, id, field;
