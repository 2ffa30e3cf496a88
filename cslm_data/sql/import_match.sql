-- Which utterance each line of a unit file is of, and whether its units can be that utterance's.
-- One row per line; reason is null where they are taken. Needs the relations `staged` (the lines)
-- and `existing` (finished rows of this tokenizer).
create or replace temp table matched as
with known as (
    select
        utt_id,
        corpus,
        audio,
        regexp_extract(audio, '([^/]*?)(\.[^./]*)?$', 1) as stem,
        offset_s,
        duration_s,
        sample_rate_hz,
        "language",
        audio_version,
        key_hash,
    from utterances
    where $corpus is null or corpus = $corpus
),

-- What filter and dedup moved out: its lines are refused, and it still counts as a part of its
-- recording.
moved as (
    select
        all_utterances.utt_id,
        all_utterances.audio,
        regexp_extract(all_utterances.audio, '([^/]*?)(\.[^./]*)?$', 1) as stem,
        excluded.kind || ' ' || excluded.curation_id || ': ' || excluded.reason as why,
    from all_utterances
    inner join excluded on all_utterances.utt_id = excluded.id and excluded.table_name = 'utterances'
    where $corpus is null or all_utterances.corpus = $corpus
    qualify row_number() over (partition by all_utterances.utt_id order by excluded.curation_id) = 1
),

everything as (
    select utt_id, audio, stem, null as why from known
    union all
    select utt_id, audio, stem, why from moved
),

recordings as (
    select audio, any_value(utt_id) as utt_id, any_value(why) as why, count(*) as num_utterances
    from everything
    group by audio
),

stems as (
    select stem, any_value(utt_id) as utt_id, any_value(why) as why, count(*) as num_utterances
    from everything
    group by stem
),

-- By id, else by path, else by the name of the file if that is allowed.
named as (
    select
        staged.line,
        case
            when by_id.utt_id is not null then by_id.utt_id
            when moved.utt_id is not null then null
            when recordings.num_utterances = 1 then recordings.utt_id
            when recordings.num_utterances is null and $by_stem and stems.num_utterances = 1 then stems.utt_id
        end as utt_id,
        case
            when by_id.utt_id is not null then null
            when moved.utt_id is not null then moved.why
            when recordings.num_utterances = 1 then recordings.why
            when recordings.num_utterances is null and $by_stem and stems.num_utterances = 1 then stems.why
        end as excluded,
        by_id.utt_id is not null as is_by_id,
        recordings.num_utterances as num_of_recording,
        stems.num_utterances as num_of_stem,
    from staged
    left join known as by_id on staged.name = by_id.utt_id
    left join moved on staged.name = moved.utt_id
    left join recordings on staged.path = recordings.audio
    left join stems on staged.stem = stems.stem
),

repeated as (
    select line, row_number() over (partition by utt_id order by line) as occurrence
    from named
    inner join staged using (line)
    where named.utt_id is not null and staged.reason is null
),

judged as (
    select
        staged.*,
        named.is_by_id,
        named.excluded,
        named.num_of_recording,
        named.num_of_stem,
        repeated.occurrence,
        known.utt_id,
        known.corpus,
        known.audio,
        known.offset_s,
        known.duration_s,
        known.language,
        known.audio_version,
        known.key_hash,
        greatest(1, floor(known.duration_s * $frame_rate_hz))::bigint as expected_frames,
        0.1 * $frame_rate_hz + 1 as tolerance,
        least(
            abs(staged.num_samples / known.sample_rate_hz - known.duration_s),
            abs(staged.num_samples / 16000 - known.duration_s)
        ) as seconds_off,
        existing.utt_id is not null as is_there,
        existing.reject_reason as there_refused,
        existing.units = staged.units
        and (staged.durations is null or existing.durations = staged.durations) as is_equal,
    from staged
    inner join named using (line)
    left join repeated using (line)
    left join known on named.utt_id = known.utt_id
    left join existing on known.utt_id = existing.utt_id and known.audio_version = existing.audio_version
)

select
    line,
    place,
    "name",
    utt_id,
    coalesce(corpus, '') as corpus,
    audio,
    offset_s,
    duration_s,
    "language",
    audio_version,
    key_hash,
    expected_frames,
    coalesce(is_there and is_equal, false) as is_already,
    case
        when reason is not null then reason
        when excluded is not null then 'excluded'
        when utt_id is null and num_of_recording > 1 then 'segment'
        when utt_id is null and $by_stem and num_of_stem > 1 then 'ambiguous'
        when utt_id is null then 'unknown'
        when occurrence > 1 then 'duplicate'
        when not is_by_id and offset_s > 0 then 'segment'
        when seconds_off > 0.1 then 'other_audio'
        when durations is not null and abs(num_frames - expected_frames) > tolerance then 'frames'
        when durations is null and len(units) > expected_frames + tolerance then 'frames'
        when is_there and there_refused is not null then 'refused'
        when is_there and not is_equal then 'differs'
    end as reason,
    case
        when reason is not null then detail
        when excluded is not null then format('its utterance was moved out by {}; bring it back with cslm-data filter --undo', excluded)
        when utt_id is null and num_of_recording > 1
            then format('the catalog cuts {} into {} utterances; units must be given for each, by its id', path, num_of_recording)
        when utt_id is null and $by_stem and num_of_stem > 1
            then format('{} utterances have a recording of that name; choose one corpus with --corpus', num_of_stem)
        when utt_id is null and num_of_stem > 0
            then 'no utterance has this id or path, but a recording has this name in another folder; accept such with --by-stem'
        when utt_id is null then 'no utterance has this id or path; ingest its corpus first'
        when occurrence > 1 then 'an earlier line is of the same utterance; remove one of them'
        when not is_by_id and offset_s > 0
            then format('the utterance begins {:.3f} s into {}; units must be given for it alone, by its id', offset_s, audio)
        when seconds_off > 0.1
            then format('{} samples, but the utterance lasts {:.3f} s; the file is of another recording', num_samples, duration_s)
        when durations is not null and abs(num_frames - expected_frames) > tolerance
            then format('{} frames, but {:.3f} s at {} Hz are about {}; another frame rate, or see --dedup', num_frames, duration_s, $frame_rate_hz, expected_frames)
        when durations is null and len(units) > expected_frames + tolerance
            then format('{} units, but {:.3f} s at {} Hz are about {} frames; another frame rate, or another recording', len(units), duration_s, $frame_rate_hz, expected_frames)
        when is_there and there_refused is not null
            then format('quantize refused its recording ({}); mend it, then: cslm-data quantize --retry-rejected', there_refused)
        when is_there and not is_equal
            then 'the workspace has other units of this tokenizer for it; the file is of another tokenizer, or was computed otherwise'
    end as detail,
from judged
