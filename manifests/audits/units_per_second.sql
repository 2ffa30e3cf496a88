-- title: Far more or fewer units a second than the language's other utterances
-- severity: warning
-- why: Few units are silence, a tone or a stuck recording; many are noise. Both cost tokens and teach
--   nothing.
-- fix: Listen to some (cslm-data listen UTT), then cslm-data filter "utt_id in (…)" --reason unit_rate.
-- needs: units

-- One row per utterance and speech tokenizer. On a log scale, outside 5 robust standard deviations
-- (1.4826 times the median deviation) and at least a factor of 1.5 from the median of its language;
-- languages of 20 utterances or more, utterances of half a second or more.
with rates as (
    select
        units.tokenizer_id,
        utt_id,
        utterances.corpus,
        utterances.language,
        utterances.duration_s,
        ln(greatest(len(units.units), 1) / utterances.duration_s) as rate,
    from units
    inner join utterances using (utt_id, audio_version)
    where utterances.duration_s >= 0.5
),

medians as (
    select tokenizer_id, language, median(rate) as typical, 1.4826 * mad(rate) as spread
    from rates
    group by tokenizer_id, language
    having count(*) >= 20
)

select
    rates.tokenizer_id,
    rates.utt_id,
    rates.corpus,
    rates.language,
    round(exp(rates.rate), 2) as units_per_s,
    round(exp(medians.typical), 2) as typical,
    round(rates.duration_s, 3) as duration_s,
from rates
inner join medians using (tokenizer_id, language)
where abs(rates.rate - medians.typical) > greatest(5 * medians.spread, ln(1.5))
order by rates.tokenizer_id, abs(rates.rate - medians.typical) desc, rates.utt_id;
