-- Rows of a NeMo manifest → utterances. One row per row of the file. `duration` counts with an offset, or
-- where $trust says so; else the file's own length does.
with read as (
    select
        * exclude (corpus),
        coalesce(corpus, $corpus, $stem) as corpus,
        coalesce(lang, "language", source_lang, $language) as spoken,
        coalesce(id, utt_id) as said_id,
        try_cast("offset" as double) as offset_s,
        if("offset" is not null or $trust, try_cast(duration as double), null) as duration_s,
        if("offset" is not null or $trust, duration, null) as duration_said,
    from fields
)

select
    place,
    case
        when said_id is not null then said_id
        when audio_filepath is null then place
        when offset_s > 0 then format('{}/{}-{:.3f}', corpus, stem_of(audio_filepath), offset_s)
        else corpus || '/' || stem_of(audio_filepath)
    end as utt_id,
    corpus,
    absolute_audio(audio_filepath, $folder) as audio,
    coalesce(offset_s, 0) as offset_s,
    duration_s,
    try_cast(sample_rate as integer) as sample_rate_hz,
    1 as num_channels,
    spoken as language,
    coalesce(speaker, speaker_id) as speaker,
    "text",
    'human' as kind,
    coalesce(license, $license) as license,
    coalesce(split, $split) as split,
    case
        when reason is not null then reason
        when audio_filepath is null then 'no_audio'
        when spoken is null then 'no_language'
        when bad_seconds("offset") or bad_seconds(duration_said) then 'bad_number'
        when offset_s < 0 or duration_s < 0 then 'negative_time'
    end as reason,
    case
        when reason is not null then detail
        when audio_filepath is null then place || ': the field `audio_filepath` is empty'
        when spoken is null then place || ': no `lang`; give --lang'
        when bad_seconds("offset") or bad_seconds(duration_said)
            then format('{}: `offset` {} and `duration` {} must be seconds', place, "offset", duration_said)
        when offset_s < 0 or duration_s < 0 then place || ': offset and duration are >= 0 s'
    end as detail,
from read
