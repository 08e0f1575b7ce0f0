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
