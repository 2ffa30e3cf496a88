-- What the predicate of a filter is asked of: the utterances that were not moved out, with what was
-- measured, encoded and detected of each. One row per utterance. {where} is the predicate.
with encoded as (
    select distinct on (utt_id, audio_version) utt_id, audio_version, len(units) as num_units
    from units
    where tokenizer_id = $tokenizer_id
),

candidates as (
    select
        utterances.*,
        measures.num_samples,
        measures.decoded_s,
        measures.rms_db,
        measures.peak,
        measures.clipped_share,
        measures.dc_offset,
        measures.leading_silence_s,
        measures.trailing_silence_s,
        measures.silence_share,
        measures.snr_db,
        measures.bandwidth_hz,
        measures.samples_hash,
        encoded.num_units,
        encoded.num_units / utterances.duration_s as units_per_s,
        len(utterances.text_norm) as num_characters,
        len(utterances.text_norm) / utterances.duration_s as characters_per_s,
        text_languages.detected as detected_language,
        text_languages.confidence as detected_confidence,
    from utterances
    left join measures using (utt_id, audio_version)
    left join encoded using (utt_id, audio_version)
    left join text_languages
        on
            md5_number_lower(utterances.text) = text_languages.text_hash
            and utterances.language = text_languages.language
)

select
    utt_id as id,
    null::varchar as duplicate_of,
from candidates
where ({where})
