-- Imported alignments whose utterance the catalog does not have: how many, of how many, the first.
-- They stay, for the utterances may come later. One row.
with
imported as (
    select distinct utt_id
    from alignments
    where aligner_id = 'imported'
),
orphans as (
    select utt_id
    from imported
    anti join all_utterances using (utt_id)
)

select
    (select count(*) from orphans) as num_orphans,
    (select count(*) from imported) as num_imported,
    (select min(utt_id) from orphans) as first_orphan;
