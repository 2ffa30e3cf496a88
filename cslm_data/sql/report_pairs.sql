-- Translations of each corpus, pair of languages and split. One row for each, the largest first.
select
    corpus,
    src_lang || ' → ' || tgt_lang as languages,
    coalesce(split, '') as split,
    count(*) as pairs,
    count(distinct src_key) as different_sources,
    avg(len(src)) as source_characters,
    avg(len(tgt)) as target_characters,
    count(*) over () as num_groups,
from bitext
group by corpus, src_lang, tgt_lang, split
order by pairs desc, corpus, languages, split
limit $max_rows
