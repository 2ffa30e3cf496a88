-- What measured speech is like. One row per corpus and language. Needs the relation `measured`.
select
    utterances.corpus,
    utterances.language,
    count(*) as num_utterances,
    sum(utterances.duration_s) / 3600 as hours,
    median(measured.found.rms_db) as median_rms_db,
    median(measured.found.snr_db) as median_snr_db,
    median(measured.found.bandwidth_hz) as median_bandwidth_hz,
    median(measured.found.silence_share) as median_silence_share,
    count(*) filter (measured.found.clipped_share >= $clipped_share) as num_clipped,
    count(*) filter (measured.found.bandwidth_hz < $narrow_hz) as num_narrow,
    count(*) filter (measured.found.silence_share = 1) as num_silent,
from measured
inner join utterances using (utt_id, audio_version)
where measured.found.reason = ''
group by utterances.corpus, utterances.language
order by utterances.corpus, utterances.language
