-- What no plan of this aligner holds as it is now, in keyed order; what has times of another, too, only
-- where that is asked for. One row per utterance. Needs `chosen` and `planned`.
select
    utt_id,
    audio,
    offset_s,
    duration_s,
    language,
    audio_version,
    "text",
from chosen
where
    (not is_timed or {all})
    and not exists (
        select 1
        from planned
        where
            planned.utt_id = chosen.utt_id
            and planned.audio_version = chosen.audio_version
            and planned.language = chosen.language
            and planned."text" is not distinct from chosen."text"
    )
order by place, utt_id
