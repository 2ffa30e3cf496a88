-- title: Text that seems to be in another language than its corpus says
-- severity: warning
-- why: It is trained as the wrong language: prompts, mixes and shares per language are off.
-- fix: Correct the language in the manifest and ingest again, or cslm-data filter "utt_id in (…)"
--   --reason wrong_language.
-- needs: text_languages

-- One row per text of at least 20 letters (8 without spaces) that is detected as something else with a
-- confidence of 0.9. Languages that a detector can hardly tell apart count as one.
with kin as (
    select unnest(members) as language, members[1] as family
    from (values (['no', 'nb', 'nn', 'da']), (['zh', 'yue', 'wuu']), (['ms', 'id']), (['hr', 'sr', 'bs'])) as groups (members)
)

select
    if(texts.table_name = 'utterances', texts.id, null) as utt_id,
    if(texts.table_name = 'bitext', texts.id, null) as pair_id,
    if(texts.table_name = 'dialogues', texts.id, null) as dialogue_id,
    texts.field,
    texts.corpus,
    texts.language,
    text_languages.detected,
    round(text_languages.confidence, 3) as confidence,
    left(texts.text, 200) as "text",
from texts
inner join text_languages
    on text_languages.text_hash = md5_number_lower(texts.text) and text_languages.language = texts.language
left join kin as said on texts.language = said.language
left join kin as seems on text_languages.detected = seems.language
where
    text_languages.confidence >= 0.9
    and coalesce(said.family, texts.language) <> coalesce(seems.family, text_languages.detected)
    and len(regexp_replace(texts.text, '[^\p{L}]', '', 'g')) >= if(is_unspaced(texts.language), 8, 20)
order by texts.corpus, texts.table_name, texts.id, texts.field;
