-- title: Samples of a mix whose source is no longer in the catalog
-- severity: error
-- why: The corpus changed, or rows were moved out, after the mix was built: it trains on what is gone.
-- fix: cslm-data build-mix … --overwrite
-- needs: mix

-- One row per (mix, source).
with members as (
    select mix, unnest(source_ids) as id, "key"
    from mix_samples
),

known as (
    select utt_id as id from utterances
    union all
    select pair_id as id from bitext
    union all
    select dialogue_id as id from dialogues
)

select members.mix, members.id, count(*) as samples, min(members."key") as example
from members
anti join known using (id)
group by members.mix, members.id
order by members.mix, members.id;
