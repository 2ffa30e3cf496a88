-- Rows of our own manifest → utterances. One row per row of the file. With an offset a row is a stretch
-- of a recording, `duration` long; without, the file's own length counts, unless $trust says that the
-- manifest's does. A row without id is named after its recording, and after its offset where it has one.
with read as (
    select
        * exclude (corpus),
        coalesce(corpus, $corpus, $stem) as corpus,
        coalesce(language, lang, $language) as spoken,
        try_cast("offset" as double) as offset_s,
        if("offset" is not null or $trust, try_cast(duration as double), null) as duration_s,
        if("offset" is not null or $trust, duration, null) as duration_said,
    from fields
)

select
    place,
    case
        when id is not null then id
        when audio is null then place
        when offset_s > 0 then format('{}/{}-{:.3f}', corpus, stem_of(audio), offset_s)
        else corpus || '/' || stem_of(audio)
    end as utt_id,
    corpus,
    absolute_audio(audio, $folder) as audio,
    coalesce(offset_s, 0) as offset_s,
    duration_s,
    try_cast(sampling_rate as integer) as sample_rate_hz,
    coalesce(try_cast(num_channels as integer), 1) as num_channels,
    spoken as language,
    speaker,
    "text",
    coalesce(kind, 'human') as kind,
    coalesce(license, $license) as license,
    coalesce(split, $split) as split,
    case
        when reason is not null then reason
        when audio is null then 'no_audio'
        when spoken is null then 'no_language'
        when bad_seconds("offset") or bad_seconds(duration_said) then 'bad_number'
        when offset_s < 0 or duration_s < 0 then 'negative_time'
    end as reason,
    case
        when reason is not null then detail
        when audio is null then place || ': no audio is named'
        when spoken is null then place || ': no `language`; give --lang'
        when bad_seconds("offset") or bad_seconds(duration_said)
            then format('{}: `offset` {} and `duration` {} must be seconds', place, "offset", duration_said)
        when offset_s < 0 or duration_s < 0 then place || ': offset and duration are >= 0 s'
    end as detail,
from read
