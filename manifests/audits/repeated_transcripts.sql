-- title: The same speaker says the same sentence again
-- severity: warning
-- why: Often it is one recording twice, or a segment cut twice; it is trained on more often than its
--   share says. Single words are left out: see isolated_words.
-- fix: Listen to them (cslm-data listen UTT), then cslm-data dedup, or cslm-data filter
--   "utt_id = '…'" --reason repeated.

-- One row per (language, corpus, speaker, sentence).
select
    language,
    corpus,
    speaker,
    count(*) as utterances,
    min(text) as text,
    list(utt_id order by utt_id) as utt_ids,
from utterances
where speaker is not null and text_norm <> '' and not is_one_word(text_norm, language)
group by language, corpus, speaker, text_key
having count(*) > 1
order by utterances desc, language, corpus, speaker, utt_ids[1];
