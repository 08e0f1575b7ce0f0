-- Checks and foreign keys

-- [add_check]
alter table orders add constraint k check (qty >= 0);

-- [add_check_notvalid]
alter table orders add constraint k check (qty >= 0) not valid;

-- [add_check_not_enforced]
alter table orders add constraint k check (qty >= 0) not enforced;

-- [validate_check]
-- before:
alter table orders add constraint k check (qty >= 0) not valid;
-- then:
alter table orders validate constraint k;

-- [validate_already_valid]
alter table orders validate constraint st_chk;

-- [add_check_notvalid_validate_same_tx]
alter table orders add constraint k check (qty >= 0) not valid;
alter table orders validate constraint k;

-- [add_check_partitioned]
alter table pt add constraint k check (k >= 0);

-- [add_check_partitioned_notvalid]
alter table pt add constraint k check (k >= 0) not valid;

-- [validate_check_partitioned]
-- before:
alter table pt add constraint k check (k >= 0) not valid;
-- then:
alter table pt validate constraint k;

-- [validate_plus_set_default] VALIDATE mixed with an AE sub-command in one ALTER TABLE
-- before:
alter table orders add constraint k check (qty >= 0) not valid;
-- then:
alter table orders validate constraint k, alter column qty set default 1;

-- [validate_check_same_tx_after_addcol] VALIDATE after another ALTER in the same transaction
-- before:
alter table orders add constraint k check (qty >= 0) not valid;
-- then:
alter table orders add column zz int;
alter table orders validate constraint k;

-- [drop_check]
alter table orders drop constraint st_chk;

-- [add_fk]
alter table orders add constraint f foreign key (user_id) references users(id);

-- [add_fk_notvalid]
alter table orders add constraint f foreign key (user_id) references users(id) not valid;

-- [add_fk_not_enforced]
alter table orders add constraint f foreign key (user_id) references users(id) not enforced;

-- [validate_fk]
-- before:
alter table orders add constraint f foreign key (user_id) references users(id) not valid;
-- then:
alter table orders validate constraint f;

-- [alter_fk_enforced]
-- before:
alter table orders add constraint f foreign key (user_id) references users(id) not enforced;
-- then:
alter table orders alter constraint f enforced;

-- [alter_fk_not_enforced]
alter table child alter constraint child_pid_fkey not enforced;

-- [alter_fk_deferrable]
alter table child alter constraint child_pid_fkey deferrable initially deferred;

-- [add_fk_self]
alter table orders add constraint f foreign key (big) references orders(id);

-- [drop_fk]
alter table child drop constraint child_pid_fkey;

-- [add_fk_partitioned_ref]
-- before:
create table parent2(id int primary key);
insert into parent2 select generate_series(1, 2000) union all select generate_series(100001,
    102000);
-- then:
alter table pt add constraint f foreign key (id) references parent2(id);

-- [add_fk_partitioned_ref_notvalid]
-- before:
create table parent2(id int primary key);
insert into parent2 select generate_series(1, 2000) union all select generate_series(100001,
    102000);
-- then:
alter table pt add constraint f foreign key (id) references parent2(id) not valid;

-- [validate_fk_partitioned]
-- before:
create table parent2(id int primary key);
insert into parent2 select generate_series(1, 2000) union all select generate_series(100001,
    102000);
alter table pt add constraint f foreign key (id) references parent2(id) not valid;
-- then:
alter table pt validate constraint f;

-- [add_fk_to_partitioned]
-- before:
create table ptp(id int primary key) partition by range(id);
create table ptp1 partition of ptp for values from (0) to (1000);
insert into ptp select generate_series(0,999);
-- then:
alter table orders add constraint f foreign key (si) references ptp(id) not valid;

-- [add_check_no_inherit]
alter table base add constraint k check (id > 0) no inherit;

-- [add_check_inherited]
alter table base add constraint k check (id > 0);

-- [add_check_only]
alter table only base add constraint k check (id > 0);

-- [add_check_deep_partitions]
alter table deep add constraint k check (n >= 0) not valid;

-- [validate_check_deep_partitions]
-- before:
alter table deep add constraint k check (n >= 0) not valid;
-- then:
alter table deep validate constraint k;

-- [add_check_violated]
alter table orders add constraint k check (qty < 0);

-- [add_two_checks]
alter table orders add constraint k1 check (qty >= 0) not valid,
    add constraint k2 check (nn >= 0) not valid;

-- [drop_check_inherited]
alter table base drop constraint base_chk;

-- [drop_check_of_child] it comes from the parent
alter table derived drop constraint base_chk;

-- [add_fk_two_columns]
alter table pairs add constraint f foreign key (parent_a, parent_b) references pairs (a, b);

-- [add_fk_two_columns_not_valid]
alter table pairs add constraint f foreign key (parent_a, parent_b) references pairs (a, b) not valid;

-- [add_fk_self_not_valid]
alter table orders add constraint f foreign key (big) references orders (id) not valid;

-- [validate_fk_self]
-- before:
alter table orders add constraint f foreign key (big) references orders (id) not valid;
-- then:
alter table orders validate constraint f;

-- [drop_fk_self]
alter table tree drop constraint tree_up_fkey;

-- [add_fk_deferrable]
alter table orders add constraint f foreign key (user_id) references users(id)
    deferrable initially deferred;

-- [add_fk_implicit_column]
alter table child add foreign key (id) references users not valid;

-- [add_fk_no_unique] the referenced columns have no unique index
alter table orders add constraint f foreign key (qty) references unl (x);

-- [add_fk_type_mismatch]
alter table orders add constraint f foreign key (note) references users(id);

-- [add_fk_to_deep_partitioned]
alter table deep_us add constraint f foreign key (area, id) references deep (area, id) not valid;

-- [add_fk_from_and_to_partitioned]
-- before:
create table refs (area text, id int) partition by list (area);
create table refs_eu partition of refs for values in ('eu');
insert into refs select 'eu', g from generate_series(1, 2000) g;
-- then:
alter table refs add constraint f foreign key (area, id) references deep (area, id);

-- [drop_fk_from_partitioned]
-- before:
create table refs (area text, id int) partition by list (area);
create table refs_eu partition of refs for values in ('eu');
alter table refs add constraint f foreign key (area, id) references deep (area, id);
-- then:
alter table refs drop constraint f;

-- [add_fk_only_partitioned]
alter table only pt add constraint f foreign key (id) references parent (id);

-- [add_fk_on_partition]
alter table pt1 add constraint f foreign key (id) references parent (id) not valid;

-- [add_fk_to_view]
alter table orders add constraint f foreign key (user_id) references vw (id);

-- [add_fk_to_matview]
alter table orders add constraint f foreign key (user_id) references mv (id);

-- [validate_fk_not_deferrable_index] validated already
alter table child validate constraint child_pid_fkey;

-- [drop_referenced_pk]
alter table parent drop constraint parent_pkey;

-- [drop_referenced_pk_cascade]
alter table parent drop constraint parent_pkey cascade;

-- [drop_fk_and_add_not_valid]
alter table child drop constraint child_pid_fkey,
    add constraint child_pid_fkey foreign key (pid) references parent (id) not valid;

-- [validate_two]
-- before:
alter table orders add constraint k1 check (qty >= 0) not valid;
alter table orders add constraint k2 check (nn >= 0) not valid;
-- then:
alter table orders validate constraint k1, validate constraint k2;

-- [alter_check_not_enforced]
alter table orders alter constraint st_chk not enforced;
