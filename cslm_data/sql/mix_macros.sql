-- Keyed hashes of cslm_data/keys.py in SQL: SplitMix64's finaliser, and a hash under a mask. The same
-- numbers in every version of DuckDB, for they are arithmetic.
create or replace temp macro times64(a, b) as ((a::uhugeint * b::uhugeint) & 18446744073709551615::uhugeint)::ubigint;
create or replace temp macro shift31(z) as xor(z, z >> 31);
create or replace temp macro shift27(z) as shift31(times64(xor(z, z >> 27), 10723151780598845931::ubigint));
create or replace temp macro finalise64(z) as shift27(times64(xor(z, z >> 30), 13787848793156543929::ubigint));
create or replace temp macro keyed64(z, mask) as finalise64(xor(z, mask::ubigint));

-- mix64 of cslm_data/keys.py; `added` is what it adds for a seed.
create or replace temp macro mix64(z, added) as finalise64(((z::uhugeint + added::uhugeint) & 18446744073709551615::uhugeint)::ubigint);

-- Bytes that a member takes in a tar.
create or replace temp macro tar_bytes(num_bytes) as 512 + (num_bytes + 511) // 512 * 512;

-- The split that a corpus gives a row, as mixing/splits.manifest_split has it.
create or replace temp macro split_of(name) as case
    when regexp_matches(lower(coalesce(name, '')), '^(test|eval)') then 2
    when regexp_matches(lower(coalesce(name, '')), '^(dev|val)') then 1
    else 0
end;

-- Where along a mix a number from 0 to 1 leads under a curriculum: the inverse of its rising `steps`,
-- straight between them.
create or replace temp macro step_before(steps, drawn) as len(list_filter(steps, lambda s: s <= drawn));
create or replace temp macro along(steps, drawn) as (
    step_before(steps, drawn) - 1
    + (drawn - steps[step_before(steps, drawn)])
    / (steps[step_before(steps, drawn) + 1] - steps[step_before(steps, drawn)])
) / (len(steps) - 1);

-- Name of a sample, as samples.sample_name has it.
create or replace temp macro sample_name(task, languages, sample_hash, epoch) as
    task || '-' || languages || '-' || format('{:016x}', sample_hash)
    || case when epoch > 0 then '-e' || epoch else '' end;
