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
