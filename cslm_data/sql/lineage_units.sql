-- What each speech tokenizer of the workspace has of one utterance. One row per tokenizer and version of
-- the recording; num_units is null where it has none.
select
    tokenizers."name",
    tokenizers.tokenizer_id,
    len(units.units) as num_units,
    units.num_frames,
    units.audio_version,
    units.audio_version = all_utterances.audio_version as is_current,
from all_utterances
cross join tokenizers
left join units on tokenizers.tokenizer_id = units.tokenizer_id and all_utterances.utt_id = units.utt_id
where all_utterances.utt_id = $id
order by tokenizers."name", is_current desc
