-- title: Text of the benchmark in the corpus
-- severity: error
-- why: A model that was trained on its test has no score. Single sentences that are everyday speech
--   may be in both by chance: look at them.
-- fix: cslm-data filter "utt_id in (…)" --reason contamination, and build the mixes again.
-- needs: against

-- One row per text of the catalog, without case and punctuation: it shares a piece of the benchmark (8
-- words, or 13 characters where nobody writes spaces), or is equal to a shorter text of it (at
-- least 3 words or 6 characters).
with benchmark as (
    select benchmark_id, bare_text("text") as bare, has_spaces(bare_text("text")) as spaced
    from benchmark_texts
),

benchmark_grams as (
    select gram, min(benchmark_id) as benchmark_id
    from (select benchmark_id, unnest(text_grams(bare, spaced)) as gram from benchmark)
    group by gram
),

benchmark_short as (
    select bare, min(benchmark_id) as benchmark_id
    from benchmark
    where len(text_grams(bare, spaced)) = 0 and is_long_enough(bare, spaced)
    group by bare
),

held as (
    select row_number() over () as number, table_name, id, field, corpus, split, "text", bare_text("text") as bare
    from texts
    anti join benchmark_own using (table_name, id)
),

met as (
    select pieces.number, count(*) as pieces_met, min(benchmark_grams.benchmark_id) as benchmark_id
    from (select number, unnest(text_grams(bare, has_spaces(bare))) as gram from held) as pieces
    inner join benchmark_grams using (gram)
    group by pieces.number
    union all
    select held.number, null as pieces_met, benchmark_short.benchmark_id
    from held
    inner join benchmark_short using (bare)
)

select
    if(held.table_name = 'utterances', held.id, null) as utt_id,
    if(held.table_name = 'bitext', held.id, null) as pair_id,
    if(held.table_name = 'dialogues', held.id, null) as dialogue_id,
    held.field,
    held.corpus,
    held.split,
    met.benchmark_id,
    coalesce(round(met.pieces_met / len(text_grams(held.bare, has_spaces(held.bare))), 3), 1.0) as share,
    left(held.text, 200) as "text",
from met
inner join held using (number)
order by share desc, held.corpus, held.table_name, held.id, held.field;
