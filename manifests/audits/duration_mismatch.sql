-- title: Audio that is longer or shorter than its header or segment says
-- severity: warning
-- why: A file cut short, or a header that lies: the transcript is of more, or of less, than is there.
-- fix: Fetch or convert the file again and ingest it, or cslm-data filter "utt_id in (…)" --reason
--   duration.
-- needs: measures

-- One row per utterance that decodes to a length more than 0.1 s and 1 % off.
select
    utt_id,
    utterances.corpus,
    round(utterances.duration_s, 3) as duration_s,
    round(measures.decoded_s, 3) as decoded_s,
    utterances.audio,
from measures
inner join utterances using (utt_id, audio_version)
where abs(measures.decoded_s - utterances.duration_s) > greatest(0.1, 0.01 * utterances.duration_s)
order by abs(measures.decoded_s - utterances.duration_s) desc, utt_id;
