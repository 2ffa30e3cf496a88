-- title: Utterances whose audio is not measured
-- severity: info
-- why: What audits say of audio (clipping, silence, bandwidth, noise) is not said of these.
-- fix: cslm-data measure
-- needs: measures

-- One row per corpus.
select corpus, count(*) as utterances, sum(duration_s) / 3600 as hours, min(utt_id) as example
from utterances
anti join measures using (utt_id, audio_version)
group by corpus
order by corpus;
