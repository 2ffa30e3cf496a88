-- Examples to listen to, in keyed order: utterances with units of one tokenizer that are up to date.
-- One row per utterance.
select utterances.utt_id
from utterances
inner join units using (utt_id, audio_version)
where units.tokenizer_id = $tokenizer_id and ($language is null or utterances.language = $language)
order by xor(utterances.key_hash, $mask::ubigint), utterances.utt_id
limit $limit
