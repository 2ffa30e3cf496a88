-- title: Transcripts that hold no word
-- severity: warning
-- why: Punctuation or blanks alone: as a transcript it teaches to write nothing for speech.
-- fix: Leave the text out of the manifest where there is no transcript, or cslm-data filter
--   "text_norm = ''" --reason empty_transcript.

-- One row per utterance.
select utt_id, corpus, language, round(duration_s, 3) as duration_s, "text"
from utterances
where "text" is not null and coalesce(text_norm, '') = ''
order by corpus, utt_id;
