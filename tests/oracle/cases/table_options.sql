-- Options of tables

-- [set_fillfactor]
alter table orders set (fillfactor=70);

-- [set_autovac]
alter table orders set (autovacuum_enabled=false);

-- [set_parallel_workers]
alter table orders set (parallel_workers=4);

-- [set_user_catalog_table]
alter table orders set (user_catalog_table=true);

-- [reset_opt]
alter table orders reset (fillfactor);

-- [set_tablespace]
alter table orders set tablespace ts1;

-- [set_unlogged]
alter table orders set unlogged;

-- [set_logged]
-- before:
alter table unl set unlogged;
-- then:
alter table unl set logged;

-- [set_logged_noop]
alter table orders set logged;

-- [set_access_method]
alter table orders set access method heap;

-- [set_access_method_other]
-- before:
create access method heap2 type table handler heap_tableam_handler;
-- then:
alter table orders set access method heap2;

-- [cluster_on]
alter table orders cluster on orders_pkey;

-- [set_without_cluster]
alter table orders set without cluster;

-- [replica_identity_full]
alter table orders replica identity full;

-- [replica_identity_idx]
alter table nopk replica identity using index nopk_k_ready;

-- [enable_rls]
alter table orders enable row level security;

-- [disable_rls]
alter table orders disable row level security;

-- [force_rls]
alter table orders force row level security;

-- [inherit]
alter table inh_c inherit inh;

-- [no_inherit]
-- before:
alter table inh_c inherit inh;
-- then:
alter table inh_c no inherit inh;
