-- Unique, primary key, exclusion

-- [add_unique]
alter table orders add constraint u unique (nn);

-- [add_unique_nnd]
alter table orders add constraint u unique nulls not distinct (nn);

-- [add_unique_using]
alter table orders add constraint u unique using index orders_uq_ready;

-- [add_unique_deferrable]
alter table orders add constraint u unique (nn) deferrable;

-- [add_pk]
alter table nopk add primary key (k);

-- [add_pk_nullable]
alter table nopk add primary key (nk);

-- [add_pk_using_nn] column already NOT NULL
alter table nopk add primary key using index nopk_k_ready;

-- [add_pk_using_nullable] column nullable
alter table nopk add primary key using index nopk_nk_ready;

-- [add_pk_using_nullable_check] column nullable, valid CHECK IS NOT NULL
alter table nopk add primary key using index nopk_nkc_ready;

-- [add_exclude]
alter table orders add constraint x exclude using gist (rng with &&);

-- [add_exclude_btree]
alter table orders add constraint x exclude (nn with =);

-- [drop_unique]
alter table parent drop constraint parent_code_key;

-- [drop_pk]
alter table orders drop constraint orders_pkey;

-- [swap_pk]
-- before:
alter table nopk add constraint p1 primary key using index nopk_k_ready;
alter table nopk alter nkc set not null;
-- then:
alter table nopk drop constraint p1, add constraint p2 primary key using index nopk_nkc_ready;

-- [add_unique_partitioned]
alter table pt add constraint u unique (id);

-- [add_pk_partitioned]
alter table pt add primary key (id);

-- [add_pk_two_columns]
alter table inh add primary key (a, b);

-- [add_pk_on_empty]
alter table unl add primary key (x);

-- [add_pk_second]
alter table orders add primary key (qty);

-- [add_pk_with_proof] a valid check proves it, the index is built all the same
alter table nopk add primary key (nkc);

-- [add_unique_violated]
alter table orders add constraint u unique (status);

-- [add_unique_include]
alter table orders add constraint u unique (nn) include (note);

-- [add_unique_using_not_unique]
alter table orders add constraint u unique using index orders_qty_idx;

-- [add_unique_using_missing]
alter table orders add constraint u unique using index nosuch;

-- [add_unique_using_invalid]
alter table orders add constraint u unique using index orders_uq_ready deferrable;

-- [add_unique_using_two]
alter table nopk add constraint u1 unique using index nopk_nk_ready,
    add constraint u2 unique using index nopk_nkc_ready;

-- [add_pk_using_renamed] the index gets the name of the constraint
alter table nopk add constraint nopk_pkey primary key using index nopk_k_ready;
drop index nopk_k_ready;

-- [add_unique_partitioned_without_key]
alter table pt add constraint u unique (k);

-- [add_pk_deep_partitions]
alter table deep add constraint u unique (area, id, n);

-- [add_unique_on_partition]
alter table pt1 add constraint u unique (k);

-- [drop_pk_partitioned]
alter table deep drop constraint deep_pkey;

-- [drop_pk_of_partition] it belongs to the parent's
alter table deep_us drop constraint deep_us_pkey;

-- [drop_index_of_constraint]
drop index parent_code_key;

-- [add_unique_two_in_one]
alter table orders add constraint u1 unique (nn), add constraint u2 unique (big, id);

-- [add_pk_only_partitioned]
alter table only pt add primary key (id);

-- [add_exclude_partitioned]
alter table pt add constraint x exclude using gist (int4range(id, id, '[]') with &&);
