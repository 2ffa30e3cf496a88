-- The finished parts of measures: one row per utterance and version of its audio, refused ones
-- included. What was measured counts before what was refused, and the earlier part before a later.
create or replace temp view measured as
select
    utt_id,
    audio_version,
    arg_min(
        struct_pack(
            reason := coalesce(reject_reason, ''),
            part := parse_filename(filename),
            rms_db := rms_db,
            clipped_share := clipped_share,
            silence_share := silence_share,
            snr_db := snr_db,
            bandwidth_hz := bandwidth_hz
        ),
        struct_pack(refused := reject_reason is not null, part := parse_filename(filename))
    ) as found,
from read_parquet({files}, filename = true)
group by utt_id, audio_version
