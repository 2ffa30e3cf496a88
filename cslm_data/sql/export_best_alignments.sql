-- Words and phones with times: those that came with the corpus before those that were computed here; a
-- part of the queries of an export. One row per utterance.
with best as (
    select utt_id, min_by(aligner_id, (aligner_id <> 'imported', aligner_id)) as aligner_id
    from alignments
    group by utt_id
)

select alignments.utt_id, alignments.words, alignments.phones
from alignments
inner join best using (utt_id, aligner_id)
