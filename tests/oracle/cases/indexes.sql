-- Indexes

-- [create_index]
create index i on orders(nn);

-- [create_unique_index]
create unique index i on orders(nn);

-- [create_index_ine_exists]
create index if not exists orders_qty_idx on orders(qty);

-- [create_index_conc]
-- alone:
create index concurrently i on orders(nn);

-- [create_uindex_conc]
-- alone:
create unique index concurrently i on orders(nn);

-- [create_index_conc_in_tx]
create index concurrently i on orders(nn);

-- [create_index_pt]
create index i on pt(v);

-- [create_index_pt_only]
create index i on only pt(v);

-- [create_index_pt_conc]
-- alone:
create index concurrently i on pt(v);

-- [attach_index]
-- before:
create index i on only pt(v);
create index i1 on pt1(v);
create index i2 on pt2(v);
-- then:
alter index i attach partition i1;

-- [drop_index]
drop index orders_qty_idx;

-- [drop_index_conc]
-- alone:
drop index concurrently orders_qty_idx;

-- [drop_index_pt]
drop index pt_k_idx;

-- [drop_index_pt_conc]
-- alone:
drop index concurrently pt_k_idx;

-- [reindex_index]
reindex index orders_qty_idx;

-- [reindex_table]
reindex table orders;

-- [reindex_index_conc]
-- alone:
reindex index concurrently orders_qty_idx;

-- [reindex_table_conc]
-- alone:
reindex table concurrently nopk;

-- [alter_index_fillfactor]
alter index orders_qty_idx set (fillfactor=70);

-- [alter_index_tablespace]
alter index orders_qty_idx set tablespace ts1;

-- [alter_index_statistics]
-- before:
create index ie on orders((qty+1));
-- then:
alter index ie alter column 1 set statistics 500;

-- [create_index_expression]
create index i on orders (lower(note));

-- [create_index_partial]
create index i on orders (nn) where flag;

-- [create_index_volatile_expression]
create index i on orders ((random()));

-- [create_index_hash]
create index i on orders using hash (note);

-- [create_index_gist]
create index i on orders using gist (rng);

-- [create_index_unnamed]
create index on orders (nn);

-- [create_index_matview]
create index i on mv (name);

-- [create_index_empty]
create index i on empty_table (n);

-- [create_index_deep_partitions]
create index i on deep (n);

-- [create_index_inherited] not on the child
create index i on base (v);

-- [create_index_partition]
create index i on pt1 (v);

-- [create_index_partition_concurrently]
-- alone:
create index concurrently i on pt1 (v);

-- [create_unique_index_violated]
create unique index i on orders (status);

-- [create_index_if_not_exists_concurrently]
-- alone:
create index concurrently if not exists orders_qty_idx on orders (qty);

-- [create_index_matview_concurrently]
-- alone:
create index concurrently i on mv (name);

-- [drop_two_indexes]
drop index orders_qty_idx, nopk_nk_ready;

-- [drop_two_indexes_concurrently]
-- alone:
drop index concurrently orders_qty_idx, nopk_nk_ready;

-- [drop_index_of_partition] it belongs to the parent's
drop index pt1_k_idx;

-- [drop_index_primary_key]
drop index orders_pkey;

-- [drop_index_foreign_key_cascade]
drop index parent_pkey cascade;

-- [drop_index_deep_partitions]
-- before:
create index i on deep (n);
-- then:
drop index i;

-- [reindex_matview]
reindex table mv;

-- [reindex_schema]
-- alone:
reindex schema sc;

-- [reindex_schema_in_transaction]
reindex schema sc;

-- [reindex_table_concurrently_in_transaction]
reindex table concurrently nopk;

-- [reindex_index_partitioned]
-- alone:
reindex index pt_k_idx;

-- [reindex_table_without_index]
reindex table unl;

-- [reindex_empty]
reindex table empty_table;

-- [alter_index_attach_table_renamed]
alter index pt_k_idx rename to ptk;

-- [alter_index_reset]
alter index orders_qty_idx reset (fillfactor);

-- [alter_index_set_statistics_of_plain_column]
alter index orders_qty_idx alter column 1 set statistics 5;

-- [analyze_in_transaction]
analyze users;

-- [vacuum_in_transaction]
vacuum users;

-- [vacuum_analyze_two]
-- alone:
vacuum (analyze) users, unl;

-- [cluster_again]
-- before:
alter table orders cluster on orders_pkey;
-- then:
cluster orders;

-- [cluster_without_index]
cluster unl;

-- [cluster_all_in_transaction]
cluster;
