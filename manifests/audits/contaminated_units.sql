-- title: Units of the benchmark in the corpus
-- severity: error
-- why: The same stretch of sound gives the same units, also when the file was cut, renamed or written
--   in another format: the recording was trained on.
-- fix: Compare the two (cslm-data listen UTT), then cslm-data filter "utt_id in (…)" --reason
--   contamination.
-- needs: benchmark_units

-- One row per utterance and speech tokenizer that shares more than 3 pieces, and a tenth, of 20 units
-- with the benchmark. Of all pieces, every eighth is looked at: those that begin with two units whose
-- hash says so, the same on both sides. Pieces of fewer than 6 different units are silence or a tone.
with own as (
    select tokenizer_id, utt_id, unnest(unit_grams(units)) as gram, unnest(unit_gram_kinds(units)) as kinds
    from benchmark_units
),

grams as (
    select tokenizer_id, gram, min(utt_id) as benchmark_id
    from own
    where kinds >= 6
    group by tokenizer_id, gram
),

others as (
    select tokenizer_id, utt_id, unnest(unit_grams(units)) as gram
    from units
    anti join (select id as utt_id from benchmark_own where table_name = 'utterances') using (utt_id)
),

met as (
    select
        others.tokenizer_id,
        others.utt_id,
        count(*) as pieces_met,
        min(grams.benchmark_id) as benchmark_id,
    from others
    inner join grams using (tokenizer_id, gram)
    group by others.tokenizer_id, others.utt_id
    having count(*) > 3
),

counted as (
    select tokenizer_id, utt_id, len(unit_grams(units)) as pieces
    from units
    semi join met using (tokenizer_id, utt_id)
)

select
    met.tokenizer_id,
    utt_id,
    utterances.corpus,
    utterances.split,
    met.benchmark_id,
    met.pieces_met,
    round(met.pieces_met / counted.pieces, 3) as share,
from met
inner join counted using (tokenizer_id, utt_id)
inner join utterances using (utt_id)
where met.pieces_met > 0.1 * counted.pieces
order by share desc, met.tokenizer_id, utt_id;
