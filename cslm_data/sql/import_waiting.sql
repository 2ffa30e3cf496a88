-- Planned utterances whose part has no file yet, in the order of their parts, and the line that has
-- their units, if one does. One row per utterance. Needs `waiting_parts` (plan, part, name) and the
-- table `matched`.
create or replace temp view waiting as
with planned as (
    select
        parse_filename(filename) as plan,
        part,
        file_row_number as place,
        utt_id,
        audio_version,
    from read_parquet({files}, filename = true, file_row_number = true)
)

select
    waiting_parts.name,
    planned.place,
    planned.utt_id,
    planned.audio_version,
    matched.line,
from planned
inner join waiting_parts using (plan, part)
left join matched
    on planned.utt_id = matched.utt_id
    and planned.audio_version = matched.audio_version
    and matched.reason is null
    and not matched.is_already
