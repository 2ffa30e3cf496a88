-- Utterances to measure robustness on, in keyed order, per language no more than $max_utterances. One
-- row per utterance. Needs the table `shared_utterances`.
select utt_id, audio, offset_s, duration_s, language, audio_version
from shared_utterances
qualify row_number() over (partition by language order by place, utt_id) <= $max_utterances
order by language, place, utt_id
