-- Rows of Common Voice's tables → utterances. One row per row of a table. The clip lies in `clips/`; the
-- sampling rate and length are those of its header.
with read as (
    select
        *,
        coalesce($corpus, $stem) as corpus,
        -- zh-CN, sv-SE: the part before the hyphen is the ISO code.
        coalesce($language, lower(string_split(locale, '-')[1])) as spoken,
    from fields
)

select
    place,
    if("path" is null, place, corpus || '/' || stem_of("path")) as utt_id,
    corpus,
    absolute_audio(if("path" like '%/%', "path", 'clips/' || "path"), $folder) as audio,
    0 as offset_s,
    null::double as duration_s,
    null::integer as sample_rate_hz,
    1 as num_channels,
    spoken as language,
    client_id as speaker,
    sentence as "text",
    'human' as kind,
    coalesce(license, $license, 'CC0-1.0') as license,
    coalesce(split, $split) as split,
    case
        when reason is not null then reason
        when "path" is null then 'no_audio'
        when spoken is null then 'no_language'
    end as reason,
    case
        when reason is not null then detail
        when "path" is null then place || ': the column `path` is empty'
        when spoken is null then place || ': no `locale`; give --lang'
    end as detail,
from read
