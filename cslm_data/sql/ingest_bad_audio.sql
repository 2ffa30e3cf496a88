-- Refuse utterances whose recording cannot be read, or whose stretch of it cannot be used.
insert into verdicts
with judged as (
    select
        row_id,
        case
            when reason is not null then reason
            when duration_s > recording_s - offset_s + 0.1 then 'beyond_end'
            when duration_s <= 0 then 'empty'
            when duration_s < $min_s then 'too_short'
            when duration_s > $max_s then 'too_long'
        end as reason,
        case
            when reason is not null then detail
            when duration_s > recording_s - offset_s + 0.1
                then format('{}: ends at {:.2f} s of {:.2f} s', audio, offset_s + duration_s, recording_s)
            when duration_s < $min_s then format('{}: {:.3f} s < {} s', audio, greatest(duration_s, 0), $min_s)
            when duration_s > $max_s then format('{}: {:.1f} s > {} s; see --max-duration', audio, duration_s, $max_s)
        end as detail,
    from complete
)

select row_id, reason, detail, false as linked
from judged
where reason is not null
