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
