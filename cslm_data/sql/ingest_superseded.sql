-- Utterances that only a dialogue manifest described go when an utterance manifest describes the same
-- audio, so that the catalog does not depend on which of the two was read first.
delete from all_utterances
where
    source_uri in (select sources.source_uri from sources where sources.format = 'dialogues')
    and exists (
        select 1 from incoming
        where incoming.audio = all_utterances.audio and incoming.offset_s = all_utterances.offset_s
    );
