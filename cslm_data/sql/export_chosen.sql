-- Utterances that an export takes; a part of its other queries. One row per utterance.
select *
from utterances
where ($split is null or split = $split)
    and ($corpus is null or corpus = $corpus)
    and ($languages is null or list_contains($languages, "language"))
    and ({where}
    )
