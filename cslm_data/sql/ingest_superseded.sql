-- Utterances that only a dialogue manifest described go when an utterance manifest describes the same
-- audio, so that the catalog does not depend on which of the two was read first.
delete from all_utterances
where
    source_uri in (select sources.source_uri from sources where sources.format = 'dialogues')
    and source_uri <> $source
    and exists (
        select 1 from raw_utterances as raws
        where raws.audio = all_utterances.audio and raws.offset_s = all_utterances.offset_s
    )
