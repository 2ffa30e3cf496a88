-- Candidates of asr and tts: transcribed utterances of a language. One row per utterance.
-- {where} is the recipe's predicate over `utterances`.
with chosen as (
    select utt_id, corpus, split, language, text, text_key, audio_version
    from utterances
    where
        language = $language
        and text is not null
        and text_key is not null
        and xor(key_hash, $mask::ubigint) <= $threshold::ubigint
        and ({where})
),

encoded as (
    select distinct on (utt_id, audio_version) utt_id, audio_version, units, durations
    from units
    where tokenizer_id = $tokenizer_id
)

select
    [chosen.utt_id] as source_ids,
    chosen.corpus as corpus,
    [chosen.split] as splits,
    chosen.text_key as sentence,
    [{
        'role': 'user',
        'language': chosen.language,
        'text': chosen.text,
        'units': encoded.units,
        'durations': encoded.durations,
        'words': null::struct(word varchar, start_s double, end_s double, score double)[]
    }] as turns,
from chosen
left join encoded using (utt_id, audio_version)
order by chosen.utt_id
